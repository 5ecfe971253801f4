"""Lathe inside of other frameworks, one module for each."""

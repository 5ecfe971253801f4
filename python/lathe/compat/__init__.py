"""Modules with the interface of other libraries, each an opt-in: nothing of Lathe imports them."""

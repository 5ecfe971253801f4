// Everything a C++ program needs of Lathe.
#pragma once

#include "lathe/api/append.h"
#include "lathe/api/attention.h"
#include "lathe/api/attention_planner.h"
#include "lathe/api/calibrate.h"
#include "lathe/api/error.h"
#include "lathe/api/merge.h"
#include "lathe/api/plan_stager.h"
#include "lathe/api/sparse_layout.h"
#include "lathe/base/version.h"

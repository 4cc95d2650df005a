"""What compiled kernels consist of: no library calls, accumulators in registers, and code that runs without a compiler."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import CPUS
from packed import CONFIG, linear_shape, packed_weight

from ilmari.kernels.compiler import compile_kernels
from ilmari.kernels.embedding import embedding
from ilmari.kernels.isa import ISAS
from ilmari.kernels.library import KernelLibrary, aligned_copy, tensor
from ilmari.kernels.linear_float import linear_float
from ilmari.kernels.linear_int8 import linear_int8
from ilmari.kernels.plan import Plan
from ilmari.kernels.quantize_rows import quantize_rows
from ilmari.kernels.rmsnorm import rmsnorm
from ilmari.kernels.rope_append import rope_append
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.silu_multiply import silu_multiply
from ilmari.kernels.target import resolve_target


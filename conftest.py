"""What holds for every test, and for every chapter that pytest runs: smoke scale, one thread, no progress bars."""

import os

os.environ["PAPERS_PROFILE"] = "smoke"
os.environ["PAPERS_PROGRESS"] = "0"
# Two test processes share the machine, and the kernels that they start inherit this.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

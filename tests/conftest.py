"""One thread a process: tests are reproducible and do not fight for cores."""

import torch

torch.set_num_threads(1)

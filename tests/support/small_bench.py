"""python small_bench.py: a served way as `python -m fedemb.bench.serve`, on a workload that takes no time."""

from dataclasses import replace

from fedemb.bench import serve
from fedemb.bench.workloads import PEERS, RECIPES

SMALL = replace(PEERS["tiny"], users=6, images=4, clients=4, batch_size=4, noise_multiplier=0.0)
SMALL_RECIPE = replace(RECIPES["lenet"], users=6, images=3, clients=2, users_per_client=2)

if __name__ == "__main__":
    serve.WORKLOADS.update(tiny=SMALL)
    serve.main()

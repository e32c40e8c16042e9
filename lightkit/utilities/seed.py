"""Leave the random generators alone, and seed them."""

from lightkit.global_seed import seed_everything
from lightkit.seeding import isolate_rng

__all__ = ["isolate_rng", "seed_everything"]

from __future__ import annotations

import subprocess
import sys

IMPORT_ALL = """
import pkgutil, sys
import roam_jax.core

for module in pkgutil.walk_packages(roam_jax.core.__path__, "roam_jax.core."):
    __import__(module.name)
    print(module.name)
print("others:", sorted(name for name in sys.modules if name.startswith("roam_jax.") and "roam_jax.core" not in name))
"""


def test_the_papers_method_loads_nothing_else_of_the_package():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *loaded, last = done.stdout.splitlines()
    assert {"roam_jax.core.meta", "roam_jax.core.networks", "roam_jax.core.variants"} <= set(loaded)
    assert last == "others: []"  # neither the configuration nor the extensions, above all

"""Configurations: their canonical bytes, their hash, and what differs between two of them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """Options that cannot work together, all of them in one message."""


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash a configuration: 16 hexadecimal digits of blake2b over its JSON with sorted names."""
    canonical = json.dumps(config, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def describe_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say which entries differ between two configurations, with both values: `seed: 0 there, 1 here`."""
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {before.get(name)!r} there, {after.get(name)!r} here" for name in names)

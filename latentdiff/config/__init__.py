"""What can be configured, as frozen pydantic models with ranges; no torch, so that ``--help`` is quick."""

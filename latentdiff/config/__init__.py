"""What can be configured, as frozen pydantic models with ranges; nothing here imports torch, so that
``--help`` is quick.
"""

"""A bus on Ray: everything that knows of Ray is in this room and in `interlock/launch.py`.

`driver.py` is a driver's way to a bus; `orchestrator.py`, `supervisor.py`, `registry.py` and `peer.py` are the actors, thin fronts of what
needs no Ray. Nothing is imported here: a replica loads its own front and nothing else.
"""

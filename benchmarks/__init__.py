"""Benchmarks against the best peers: ``python -m benchmarks gemm|step|softmax|predict|all|report|compare``.

cases.py and contenders/ are the lists; worker.py runs one contender of one case in its own process; timing.py
lets the workers take turns; report.py and compare.py read what they wrote.
"""

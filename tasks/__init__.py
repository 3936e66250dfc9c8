"""WHAT the work is: plain, typed stages and rooms; Prefect only in steps.py."""

import os

# Before torch is loaded. By default its idle threads spin, and two processes on one machine (a scan
# and the gate) take each other's cores: a small network cost 250 CPU ms a pass beside another
# process instead of 7. Whoever sets it otherwise has it so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

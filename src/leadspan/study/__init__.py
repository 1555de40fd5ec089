"""Many runs: sweeps, launching, reports."""

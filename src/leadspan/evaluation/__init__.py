"""Test a student and say how sure the numbers are."""

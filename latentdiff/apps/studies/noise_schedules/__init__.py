"""Study: noise schedules on a small CNN."""

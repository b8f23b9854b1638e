"""How the work of a cohort runs on devices."""

"""What make runs and no notebook imports: execute notebooks, record runs, write badges."""

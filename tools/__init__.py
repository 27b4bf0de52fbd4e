"""What make runs and no notebook imports: execute, record, pages and slides, a class's files."""

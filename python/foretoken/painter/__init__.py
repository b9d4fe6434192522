"""Pictures from texts."""

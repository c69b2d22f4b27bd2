"""Looking after runs.db: what goes into it, how it is migrated, merged and asked safely."""

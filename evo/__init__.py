"""The search: campaigns that evolve genomes on the harness, their ledger, reports and command line."""

"""What comes in between scans: checks, uploads, blocklist, alerts, bucket events."""

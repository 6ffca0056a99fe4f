"""Every metered LM call: counted, bounded, remembered, retried."""

"""A judged collection: drawn for labels, estimated, and compared with an earlier one."""

"""A judge in the tools of others, one module each; a module needs the package that it is named after, `trl` none."""

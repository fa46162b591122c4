"""The texts that a project is made of: YAML, env files, values with variables. PURE."""

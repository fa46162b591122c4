"""A loaded model -> the specs of a stack. PURE: `stack.stack_of` is what this package is for."""

"""The integer semantics: for each quantized operator the TIR that defines it, one operator a file."""

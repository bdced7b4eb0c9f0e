# tests/insn

"""Pure decisions and data: standard library only; no clock, no disk, no log."""

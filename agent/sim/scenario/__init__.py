"""The scenario language: what happens at a charger, and what must follow, said once for every rig."""

"""An exported model: its folder, its name and its cached copies, and the session that runs it anywhere."""

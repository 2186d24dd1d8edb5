"""What counting is made of: how a photo is asked for, what is heard with it, regions, alarms, pictures and tables."""

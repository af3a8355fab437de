"""What the finding ``conditioning`` is made of: its measurements and its charts."""

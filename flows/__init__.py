"""What runs, in what order, behind which gates. No work is done here."""

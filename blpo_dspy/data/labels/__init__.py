"""What labels are, a closed set or a range of scores, and how an answer is read as one of them."""

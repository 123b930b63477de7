"""What an optimizer is: the genome language, its typed program, and the back ends that run or print it."""

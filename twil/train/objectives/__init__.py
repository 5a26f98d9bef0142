"""What is learned: masked pieces and reply order, labels, a teacher's answers. A loss goes into `losses`."""

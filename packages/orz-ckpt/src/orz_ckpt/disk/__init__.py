"""What is asked of a disk: plain files, every byte once, writes that last, and what kind of disk it is."""

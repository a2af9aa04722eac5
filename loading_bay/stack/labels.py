"""People's decisions, kept as labels for training: their location, and the number that a retraining needs."""

# AnnounceReview keeps a copy of each decided photo as labels/ANSWER/CLAIM-REVIEW_ID in the inbox.
PREFIX = "labels/"
# The share of labels that is held out of training to compare models.
HELD_OUT_SHARE = 1 / 3
# Per class. With two classes, 50 photos are then held out; the comparison notices ten fixed and none broken.
ENOUGH_LABELS = 75

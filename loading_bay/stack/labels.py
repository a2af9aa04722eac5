"""What people decided, kept as labels to learn from: where they lie, and how many a retraining takes."""

# AnnounceReview keeps a copy of each decided photo as labels/ANSWER/CLAIM-REVIEW_ID in the inbox.
PREFIX = "labels/"
# Of the labels, this share is never learned, so that models can be judged by it.
HELD_OUT_SHARE = 1 / 3
# Of each class: of two classes 50 photos are then held out, of which ten mended and none broken show in the comparison.
ENOUGH_LABELS = 75

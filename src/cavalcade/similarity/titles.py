"""What measures are called in plots, tables and sentences."""

MEASURE_TITLES = {
    "adjusted": "adjusted Jaccard index",
    "jaccard": "Jaccard index",
    "assignment": "assigned adjusted Jaccard index",
    "label_conditional": "label-conditional Jaccard index",
    "cka": "linear CKA",
    "cka_unbiased": "unbiased linear CKA",
    "rsa": "RSA (Pearson)",
    "rsa_spearman": "RSA (Spearman)",
    "procrustes": "Procrustes similarity",
    "knn": "mutual nearest neighbours",
    "svcca": "SVCCA",
    "pwcca": "PWCCA",
}

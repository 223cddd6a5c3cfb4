/**
 * Words by a linear congruential generator, and the same compressed by `zstd -19` 1.5.4: blocks with Huffman-coded
 * literals, FSE-coded sequences and a checksum, where no zstd is installed.
 */
export function sampleText(): Buffer {
  let state = 1;
  const next = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
  const words = "vmcore kernel guest page fault panic cr3 rip ffffffff81000000 idle swapper".split(" ");
  let text = "";
  for (let i = 0; i < 900; i++) {
    text += words[next(words.length)] + (next(4) > 0 ? " " : ` ${next(65536).toString(16)}\n`);
  }
  return Buffer.from(text);
}

const BASE64 = [
  "KLUv/WQhG/02ANY7iReAqaQDwMf+gQ9+e30wQ0JYhiGFK5JcwZQAfAB8AGNyOHsxtxrWYHFLueN0pLzy9oh9DOHHCumoeRWTizaFYHww",
  "TC493xKZKM//YVSm9YIYs5CJ2OOGNTVS/CqLuzOa/1Na4J2lyCo/GAEKPB0eKBiwYP/AB3QAac72pj4Ik38wwAsgcAFCqqcggS8AIC5E",
  "HjgCA4MAA7EkUQgG0RAHDmAPyDU+Aj9wYBskEPPJgwMBEASP7st5KMSCfphFHTey35TjD0mYmJbr99t4PHHekumXDf3V5ZipKW7gjTYZ",
  "HwoNhfSlbNqf659l+Fxyfpi+KL6sixNyzzt5VanR5bZsYkfrmztoCNkOITWW3hShoX7QJRuai++M4HjB9judMTmOkhS+iefn86ZtvnTG",
  "sL4JOaS51OaFK6Qw4+zTpt+VfPR5FquSFY2iAeUfXfGsB8mQ8DQplnAQPKbJyf6Opd7phmIwnTxRyMKq7S1C5pI4W6sKKN5boJLs8A42",
  "0aI5Mw4tLFpVZcf5zoYMgTyXZYaFUpDgpOVOGT0sxXqGProm1Mjpygu5MkKUduvlm/JCyIt0+lQGa4RPV8YkYCjRflET1uy3iSajmiph",
  "cGwKuarF5jHmJhS7I0KdkTs7Zb0sBc+ExTsnGZOYEdu04Hyh2eg2nl5DjXydNLWYBU30+xEcJcQziE0KB/vpFLkT3MQsPU5w8XYv020q",
  "YpW9GUErgdJ3huxOyH4lgjeoYhTEs2VQkEIaA0IQCAoHBZoiCvsiEFSKSkiMSjxFEEkiIkNSUEoHF5XWSC5Z+N4mPYmRmgBSCZkUtYtQ",
  "37TCbmSsIemL4W93f34pfqI9d/WDGZULS80KDot9WjpWgNMr0rMcFm7IvhtusT5l6wDHoQ3/OXxP9SNl6n9G8N6RO18BlUCQOqW+kf03",
  "3khNtphhPTcuU8B1MJKgfCFLoTNeqNobA0/Oe/j3aFMPt1U404syqP8iUaTsOA5fULrUUD4WIwjZcneq41kWhwk1iudv1VvNG0lVi02Q",
  "l1tbQi243ciqZiKEsu8I6Dfn70Pa+6GAf0Msxz/OSHDORqnFrZh7NYeJZo3K2lh66GMhkvDyh967QYT7XMPDHdS3Tiga3XBlC1SL71YH",
  "Xc4pNHiL0EMbl6cVhRfsMBL7qYPCiS3S7RESLN1leGnUOIwEMh4FQbMTZTZECyX5utuX/YSUK56pF8vRecOW4mCb54mrKVIYLyLUS5yW",
  "0Efk18783DnClfy2gObkVUwHmsGM1Zp6mzjaOC7MpAN5tDJRNLGmMD7z5xWIX4IK7Yn8hgZULJocQm9z8AIdBErUqzBOsLd3PkfBlkJ+",
  "uWQ8HbkOZYk0HOGpeCUiwE24Sb0p4j6wX7JCbXhhpTvR2Aom4R5LBqNxCcTuH9IZiuHA0K0pMnHKHVpiMamrDFyPOpZWsOVqzmjljhQh",
  "ylvXTXboVwJ2hu7sZUXjufbGpPO6abmak5zW1wqZJRXUj5rXLaPlobPm48f02QXcRSllJeKn4gfvgwmkRWcJ+fvGK9SC5m+mBOC9ubLq",
  "pjXBy1QMIICw6+8vmImJZuHioKtJUXZNqyUOEV+kKDKepDC1ahkRdTt+aC06q2ojetBlMLVD0hTGX8AvYnlV+xB4bKPpdGBoGYmEqFdq",
  "fbzmX2uXqcP86j5bn0hUkhIACqTcAosaYv5yK2K49EdOHSL+CETCnCwwEW42ofQB+kDQnP4ERAArqe6SJhbfUaYGzpAxXdRp94EMYspa",
  "WvbM/KmfL7Lj/M1RcmduaTawvrJq1IN0hkSIAyf3Lculg6XqsbJ9gRmCI4qzxsKqLVei2VFpbeFMbfieFfIgKy4dMuAymoyBNseJeM8G",
  "67OslaSWSTGkISPoDdKDV9W6k1U9Zi21A6UXj6+LS9Q0k6a/k3Ed4mYxapPlRdIelaeUyBWDyV5BV0bvP0hhSHY7UW14/GXj3TSapAgT",
  "h/YzCbwKXAZtJlaIJC4qdZbSbWY/iaLwQ7zaUifoFZCLv3QCVpzW3KntWdIOPkyEuqyJ1uzDi2btEANHtulN24/+tIXK0oAt+A1Hh4+v",
  "yb4IvhTtldwZ8E9/Jqkd3z3opj1o9Tc3Ee7Xdin6R4nnIoLn836uOFQMzOcabpRag8uF0GxORpggW0SFWTbTlIwPRIHR3uV5KI5Fjoa3",
  "V0dqYfEzAqfkBvBnvTGPLpPmFcymWyOUG2cqPOWLndyKnWaexoXJz1+3p5JTyT7DOo4mSsPN9fvNcFLBjzZsXGcyz0rxtmv2PF0+cHD+",
  "NS9NcgAQrdWOlhG/Pg2juTN33tJaY568qyIRYzzbYNrUQ/gOCRbWBzPJs4cGonY/seMU4wij/TjU",
];

export const sampleZstd = (): Buffer => Buffer.from(BASE64.join(""), "base64");

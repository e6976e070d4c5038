//! Huffman.

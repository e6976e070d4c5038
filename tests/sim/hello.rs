//! ClientHellos made by hand, for tests that look at where a connection goes and not at what TLS makes of it.

/// The smallest ClientHello with this name that offers these protocols.
pub fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let name = behind(2, &[&[0][..], &behind(2, name.as_bytes())].concat());
    let mut extensions = [&[0, 0][..], &behind(2, &name)].concat();
    if !protocols.is_empty() {
        let list: Vec<u8> = protocols.iter().flat_map(|word| behind(1, word.as_bytes())).collect();
        extensions.extend([&[0, 16][..], &behind(2, &behind(2, &list))].concat());
    }
    let body = [&[3, 3][..], &[7; 32], &[0], &behind(2, &[0x13, 1]), &[1, 0], &behind(2, &extensions)].concat();
    [&[22, 3, 1][..], &behind(2, &[&[1][..], &behind(3, &body)].concat())].concat()
}

/// Bytes behind their length, which takes this many bytes.
pub fn behind(length: usize, bytes: &[u8]) -> Vec<u8> {
    let size = bytes.len().to_be_bytes();
    [&size[size.len() - length..], bytes].concat()
}

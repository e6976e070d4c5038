//! Files that exist in tests only: certificates made when they are first asked for, and a clock that stands still.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use evenkeel_config::Files;
use evenkeel_tls::{Clock, Tickets};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

/// 2026-11-22.
const NOW: u64 = 1_795_305_600;

/// Whatever folder it is said to be in, a file is known by its name.
#[derive(Default)]
pub struct MadeUp {
    tickets: Tickets,
    no_authorities: bool,
}

impl MadeUp {
    /// As on a system that trusts nobody.
    #[allow(dead_code, reason = "not every test file asks for it")]
    pub fn without_authorities() -> Self {
        MadeUp { no_authorities: true, ..MadeUp::default() }
    }
}

impl Files for MadeUp {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let known = FILES.iter().find(|(known, _)| *known == name);
        known.map(|(_, bytes)| bytes.clone()).ok_or_else(|| "there is no such file".to_owned())
    }

    fn authorities(&mut self) -> Option<Vec<u8>> {
        (!self.no_authorities).then(|| self.read(Path::new("ca.pem")).expect("it is made up"))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(Standing)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let own = ["127.0.0.1", "10.0.0.2", "100.64.0.1", "100.64.0.2", "::1", "2001:db8::2"];
        own.iter().map(|address| address.parse().expect("it is an address")).collect()
    }

    fn tickets(&self) -> &Tickets {
        &self.tickets
    }
}

#[derive(Debug)]
struct Standing;

impl Clock for Standing {
    fn unix_seconds(&self) -> u64 {
        NOW
    }
}

static FILES: LazyLock<Vec<(&'static str, Vec<u8>)>> = LazyLock::new(|| {
    let authority = Authority::new();
    let (always, ever) = ((2026, 1), (2028, 1));
    let mut files = vec![
        ("ca.pem", authority.pem.clone().into_bytes()),
        ("sticky.key", (0..32).collect()),
        ("short.key", vec![7; 16]),
        ("prometheus.token", b"prometheus-of-the-shop\n".to_vec()),
        ("short.token", b"hunter2\n".to_vec()),
        ("two.token", b"one-token-here another\n".to_vec()),
        ("empty.pem", Vec::new()),
        // The frames of two OCSP answers: the responder says something, the responder refuses to.
        ("good.ocsp", vec![0x30, 7, 0x0a, 1, 0, 0xa0, 2, 0x30, 0]),
        ("refused.ocsp", vec![0x30, 3, 0x0a, 1, 3]),
        ("partners.list", b"# offices\n198.51.100.0/24\n\n2001:db8:77::/48   # the new one\n".to_vec()),
        ("abusers.list", b"203.0.113.7\r\n::ffff:203.0.113.8\r\n".to_vec()),
        ("comments.list", b"# nobody yet\n\n".to_vec()),
        ("bad.list", b"10.0.0.0/8\nallow 10.1.0.0/16;\n10.0.0.7/8 # host bits\n".to_vec()),
        ("nginx.list", b"allow 10.0.0.0/8;\n".repeat(1000)),
        ("text.pem", b"this is not a certificate\n".to_vec()),
    ];
    let leaves: [(&str, &str, &[&str], _, _); 6] = [
        ("www.pem", "www.key", &["example.com", "www.example.com"], always, ever),
        ("wild.pem", "wild.key", &["*.example.com", "*.example.net"], always, ever),
        ("expired.pem", "expired.key", &["www.example.com"], (2024, 1), (2025, 1)),
        ("future.pem", "future.key", &["www.example.com"], (2027, 1), ever),
        ("soon.pem", "soon.key", &["www.example.com"], always, (2026, 12)),
        ("client.pem", "client.key", &["client.example.com"], always, ever),
    ];
    for (chain, key, names, from, to) in leaves {
        let made = authority.leaf(names, from, to, &rcgen::PKCS_ECDSA_P256_SHA256);
        files.extend([(chain, made.0), (key, made.1)]);
    }
    let rsa = authority.leaf(&["example.com", "www.example.com"], always, ever, &rcgen::PKCS_RSA_SHA256);
    files.extend([("www-rsa.pem", rsa.0), ("www-rsa.key", rsa.1)]);
    files
});

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

type Month = (i32, u8);

impl Authority {
    fn new() -> Self {
        let mut params = params("Made-up authority", &[], (2020, 1), (2036, 1));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("keys can be made");
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Chain and key, each a file.
    fn leaf(
        &self,
        names: &[&str],
        from: Month,
        to: Month,
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).expect("keys can be made");
        let signed = params(names[0], names, from, to).signed_by(&key, &self.issuer).expect("it signs");
        ((signed.pem() + &self.pem).into_bytes(), key.serialize_pem().into_bytes())
    }
}

fn params(common_name: &str, names: &[&str], from: Month, to: Month) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names are names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(from.0, from.1, 1);
    params.not_after = date_time_ymd(to.0, to.1, 1);
    params
}

//! Which of a name's SRV records count, and what their weights are worth as weights of backends.
//!
//! Pure. Of several priorities only the best counts: RFC 2782 means the others for clients that find all of the best away, and whether
//! a backend is away is what checks say.

use evenkeel_model::limits;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// A complete name; the root says that there is no such service.
    pub target: String,
}

/// A record that counts, and the weight of its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub target: String,
    pub port: u16,
    pub weight: u32,
}

/// The records of the best priority. Where a weight is beyond what a backend may have, all are scaled to it; one of 0 takes little (RFC 2782)
/// and not nothing, unless all are 0, which stands for no opinion.
pub fn choose(services: &[Service]) -> Vec<Chosen> {
    let served = services.iter().filter(|service| service.target != ".");
    let best = served.clone().map(|service| service.priority).min();
    let chosen: Vec<&Service> = served.filter(|service| Some(service.priority) == best).collect();
    let most = limits::WEIGHT.max as u32;
    let heaviest = chosen.iter().map(|service| u32::from(service.weight)).max().unwrap_or_default();
    let weight = |service: &Service| match (heaviest, u32::from(service.weight)) {
        (0, _) => most,
        (heaviest, weight) if heaviest > most => (weight * most / heaviest).max(1),
        (_, weight) => weight.max(1),
    };
    let as_chosen =
        |service: &&Service| Chosen { target: service.target.clone(), port: service.port, weight: weight(service) };
    chosen.iter().map(as_chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_priority_counts_and_weights_keep_their_proportions() {
        type Records = &'static [(u16, u16)];
        // Priority and weight of each record; weight of each that counts.
        let table: [(Records, &[u32]); 8] = [
            (&[], &[]),
            (&[(10, 5)], &[5]),
            (&[(10, 5), (20, 50)], &[5]),
            (&[(20, 50), (10, 5), (10, 7)], &[5, 7]),
            (&[(0, 0), (0, 0)], &[100, 100]),
            (&[(0, 0), (0, 60)], &[1, 60]),
            (&[(0, 65_535), (0, 32_768), (0, 1)], &[100, 50, 1]),
            (&[(0, 100), (0, 1)], &[100, 1]),
        ];
        for (records, expected) in table {
            let service = |&(priority, weight)| Service { priority, weight, port: 80, target: "a.".to_owned() };
            let services: Vec<Service> = records.iter().map(service).collect();
            let weights: Vec<u32> = choose(&services).iter().map(|chosen| chosen.weight).collect();
            assert_eq!(weights, expected, "{records:?}");
        }
    }

    #[test]
    fn a_service_that_is_said_not_to_exist_has_no_backends() {
        let service = Service { priority: 0, weight: 0, port: 0, target: ".".to_owned() };
        assert!(choose(&[service]).is_empty());
    }
}

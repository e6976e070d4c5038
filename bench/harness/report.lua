-- Prints what wrk knows as one line of JSON, since its own text rounds.
done = function(summary, latency, requests)
  io.write(string.format(
    '{"requests": %d, "bytes": %d, "seconds": %.6f, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "p50_us": %.1f, "p99_us": %.1f}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, summary.errors.status, summary.errors.connect,
    summary.errors.read, summary.errors.write, summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end

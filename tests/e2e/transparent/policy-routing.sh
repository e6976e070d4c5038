# What comes from the backends to a socket of ours is delivered here, though its address is a client's.
nft -f - <<'RULES'
table inet evenkeel {
    chain transparent {
        type filter hook prerouting priority mangle; policy accept;
        iifname "back" socket transparent 1 meta mark set 0x6b accept
    }
}
RULES
ip rule add fwmark 0x6b lookup 107 priority 107
ip route add local default dev lo table 107
ip -6 rule add fwmark 0x6b lookup 107 priority 107
ip -6 route add local default dev lo table 107

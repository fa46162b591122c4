#!/bin/sh
# Says who answered and whom it saw, so that balancing and client addresses can be watched.
printf 'Content-Type: text/plain\r\n\r\n'
echo "hostname: $(hostname)"
echo "address:  $(ip -4 -o addr show scope global | awk '{ sub("/.*", "", $4); print $4 }' | xargs)"
echo "client:   $(echo "$REMOTE_ADDR" | sed 's/^\[\(::ffff:\)\{0,1\}//; s/\]$//')"
[ -z "$GREETING" ] || echo "$GREETING"

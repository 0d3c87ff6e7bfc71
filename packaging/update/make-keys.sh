#!/bin/sh
# Keys and certificates that sign updates: a root, and signers under it. Plain openssl.
#
#   make-keys.sh root DIR            a root: DIR/root.key (secret), DIR/root.pem (what a charger trusts)
#   make-keys.sh signer DIR NAME     a signer under it: DIR/NAME.key (secret), DIR/NAME.pem (its certificate)
#   make-keys.sh fingerprint CERT    of its key: the line for the revocation list
#
# The keys have no password: good for a desk and for tests. Keep the root of a product on a machine without a network,
# and a product's signers in a hardware token (README.md says how to sign with one).
set -eu
umask 077
ROOT_DAYS=10950 # thirty years; a charger does not look at a root's dates
SIGNER_DAYS=1095

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

new_key() { # FILE CURVE
    if [ -e "$1" ]; then
        echo "make-keys.sh: $1 is there already" >&2
        exit 1
    fi
    openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1"
}

extensions() { # the lines of one section, in a file that openssl reads
    printf '[req]\ndistinguished_name = name\n[name]\n[use]\n' >"$work"
    printf '%s\n' "$@" >>"$work"
}

[ $# -ge 2 ] || usage
work=$(mktemp)
trap 'rm -f "$work"' EXIT
case $1 in
root)
    mkdir -p "$2"
    new_key "$2/root.key" P-384
    extensions "basicConstraints = critical, CA:TRUE, pathlen:1" "keyUsage = critical, keyCertSign" \
        "subjectKeyIdentifier = hash"
    openssl req -x509 -new -config "$work" -extensions use -key "$2/root.key" -sha384 -days "$ROOT_DAYS" \
        -subj "/CN=Update root" -out "$2/root.pem"
    chmod 644 "$2/root.pem"
    ;;
signer)
    [ $# -eq 3 ] && [ "$3" != root ] || usage
    [ -r "$2/root.key" ] || { echo "make-keys.sh: no root in $2; make one first" >&2 && exit 1; }
    new_key "$2/$3.key" P-256
    extensions "basicConstraints = critical, CA:FALSE" "keyUsage = critical, digitalSignature" \
        "extendedKeyUsage = critical, codeSigning" "subjectKeyIdentifier = hash" "authorityKeyIdentifier = keyid"
    openssl req -new -config "$work" -key "$2/$3.key" -subj "/CN=$3" |
        openssl x509 -req -extfile "$work" -extensions use -CA "$2/root.pem" -CAkey "$2/root.key" \
            -set_serial "0x$(openssl rand -hex 16)" -sha384 -days "$SIGNER_DAYS" -out "$2/$3.pem"
    chmod 644 "$2/$3.pem"
    ;;
fingerprint)
    openssl x509 -in "$2" -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1
    ;;
*)
    usage
    ;;
esac

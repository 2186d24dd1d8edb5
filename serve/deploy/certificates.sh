#!/usr/bin/env bash
# A private certificate authority of one's own, and with it the certificates of one server and one client.
#
#   serve/deploy/certificates.sh FOLDER [NAME...]
#
# NAME: host names and IP addresses by which clients call the server; localhost and 127.0.0.1 are always among them.
# Makes ca.pem, server.pem, server.key, client.pem and client.key; a folder that has a ca.key keeps its authority, so that
# new certificates can be made beside those that are in use. For development, or for one's own machines: ca.key signs
# whoever may ask the server. Keep it off the server.
set -euo pipefail

folder=${1:?wanted a folder for the certificates: certificates.sh FOLDER [NAME...]}
shift
days=${AVEDGE_CERTIFICATE_DAYS:-365}
umask 077 # keys are for their owner alone
mkdir -p "$folder"
cd "$folder"

names="DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
    if [[ $name =~ ^[0-9.]+$|: ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
done

new=$(mktemp --directory)
trap 'rm -rf "$new"' EXIT # it holds keys

new_key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }

if [[ ! -e ca.key ]]; then
    new_key "$new/key"
    openssl req -x509 -new -key "$new/key" -sha256 -days "$((days * 10))" -out "$new/pem" -subj "/CN=avedge private authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
    mv "$new/pem" ca.pem
    mv "$new/key" ca.key # last: who has it has the certificate too
fi

# name of the files, subject, what the certificate is for, more extensions; replaces key and certificate together
signed() {
    local said
    new_key "$new/key"
    openssl req -new -key "$new/key" -subj "/CN=$2" -out "$new/request"
    said=$(openssl x509 -req -in "$new/request" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -sha256 \
        -days "$days" -out "$new/pem" -extfile <(printf '%s\n' "basicConstraints=critical,CA:FALSE" \
            "keyUsage=critical,digitalSignature" "extendedKeyUsage=$3" "${@:4}") 2>&1) ||
        { printf '%s\n' "$said" >&2 && exit 1; }
    mv "$new/key" "$1.key"
    mv "$new/pem" "$1.pem"
}

signed server "avedge server" serverAuth "subjectAltName=$names"
signed client "avedge client" clientAuth
chmod 644 ca.pem server.pem client.pem
printf 'server certificate for %s; client certificate client.pem; both for %s days, in %s\n' "$names" "$days" "$PWD"

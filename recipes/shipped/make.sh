#!/usr/bin/env bash
# Make the models that come with twil; README.md tells what is done, and why.
#
#     bash recipes/shipped/make.sh ENCODER WORK [SEED …]
#
# in a clone, with the data sets in data/. What is in WORK is not made again, and a run that was interrupted
# goes on where it stopped.
set -euo pipefail

encoder=$1 work=$2
shift 2
seeds=${*:-1 2 3}
here=$(dirname "$0")
mkdir -p "$work"

make() { # OUTPUT COMMAND…
    local output=$1 resume=()
    shift
    [ -e "$output" ] && return
    [ -e "$output.checkpoint" ] && resume=(--resume)
    twil "$@" "${resume[@]}" -o "$output"
}

# Nothing that a model is measured on is learned from.
measured=()
for file in data/*/dev.tsv data/*/test.tsv; do
    head -n 1 "$file" | grep -qP '\tTEXT\t' && measured+=(--without "$file")
done

[ -e "$work/emoji_dev.tsv" ] || python "$here/texts.py" data "$work"
texts=("$work/tweets.tsv" data/{umsab_spanish,brighter_es,goldtox_es}/train.tsv)

make "$work/vectors" distill "$encoder" "${texts[@]}" "${measured[@]}" --config "$here/vectors.toml"
make "$work/emoji" finetune "$work/emoji_train.tsv" --dev "$work/emoji_dev.tsv" --model "$work/vectors" \
    --config "$here/emoji.toml"
[ -e "$work/twil-es" ] || python "$here/pack.py" "$work/emoji" "$work/twil-es"

learn() { # NAME SET OPTION…: a teacher, its students, and their bundles in int8
    local name=$1 data=data/$2 seed
    shift 2
    local sets=(--dev "$data/dev.tsv" --test "$data/test.tsv")
    make "$work/$name-teacher" finetune "$data/train.tsv" "${sets[@]}" --model "$encoder" --runs 3 \
        --config "$here/teacher.toml" "$@"
    for seed in $seeds; do
        make "$work/$name-$seed" distill "$work/$name-teacher" "${texts[@]}" "${measured[@]}" \
            --labelled "$data/train.tsv" "${sets[@]}" --store "$work/$name-answers" \
            --student "$work/twil-es" --config "$here/student.toml" --seed "$seed"
        make "$work/$name-$seed.int8" export "$work/$name-$seed" --onnx --optimize --precision int8 \
            --calibration "$data/train.tsv" --eval "$data/dev.tsv"
    done
}

emotions='["anger", "disgust", "fear", "joy", "sadness", "surprise"]'
learn sentiment umsab_spanish
learn emotion brighter_es --set data.task=multi-label --set "data.labels=$emotions"
learn toxicity goldtox_es

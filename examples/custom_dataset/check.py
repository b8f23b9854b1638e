"""Does the class keep the contract? python check.py FOLDER"""

import sys

from my_users import MyUsers

from fedemb.testing import check_user_dataset

for split in ("train", "test"):
    users = MyUsers(root=sys.argv[1], split=split)
    check_user_dataset(users, sample=users.num_users)
    print(f"{split}: {users.num_users} users are as fedemb wants them")
